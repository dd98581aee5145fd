'use strict';
// Write many lines and say what the control group is charged with; bloat.py beside it is the same program.
//
//     node bloat.js --bloat single|many|reuse [--lines N] [--batch N] [--directory DIR]
//
// single: one big file. many: a file for each batch, kept. reuse: one file, truncated before each batch.
// Only the standard library is used, and nothing is held: what grows is the page cache. docker.md has the experiments.

const fs = require('fs');
const path = require('path');
const { parseArgs } = require('util');

const LINE_BYTES = 100;
const LINES_A_WRITE = 1000;
const REPORTS = 20;
const MIB = 1024 * 1024;

// A kind of number, and where control groups version 1 and 2 have it: a file, and a word in it.
const FILES = {
  1: {
    cache: ['memory.stat', 'total_cache'],
    dirty: ['memory.stat', 'total_dirty'],
    usage: ['memory.usage_in_bytes', ''],
    limit: ['memory.limit_in_bytes', ''],
    peak: ['memory.max_usage_in_bytes', ''],
    failed: ['memory.failcnt', ''],
    killed: ['memory.oom_control', 'oom_kill'],
  },
  2: {
    cache: ['memory.stat', 'file'],
    dirty: ['memory.stat', 'file_dirty'],
    usage: ['memory.current', ''],
    limit: ['memory.max', ''],
    peak: ['memory.peak', ''],
    failed: ['memory.events', 'max'],
    killed: ['memory.events', 'oom_kill'],
  },
};

function linesOf(file) {
  try {
    return fs.readFileSync(file, 'utf8').split('\n').filter((line) => line !== '');
  } catch {
    return [];
  }
}

// The version of this process's memory control group and its folder; null: there is none to be seen.
function findGroup() {
  const groups = linesOf('/proc/self/cgroup').map((line) => /^\d+:([^:]*):(.*)$/.exec(line).slice(1));
  const mounts = linesOf('/proc/self/mountinfo').map((line) => line.split(' '));
  for (const [version, kind] of [[1, 'cgroup'], [2, 'cgroup2']]) {
    for (const [controllers, group] of groups) {
      if (version === 1 ? !controllers.split(',').includes('memory') : controllers !== '') continue;
      for (const mount of mounts) {
        // 35 24 0:30 ROOT MOUNT_POINT OPTIONS [more] - TYPE DEVICE OPTIONS (proc(5))
        const [ownKind, , options] = mount.slice(mount.indexOf('-') + 1);
        if (ownKind !== kind || (version === 1 && !options.split(',').includes('memory'))) continue;
        // In a container the mount's root is the container's own group.
        const below = path.posix.relative(mount[3], group);
        const folder = path.join(mount[4], below.startsWith('..') ? '' : below);
        if (fs.existsSync(path.join(folder, FILES[version].usage[0]))) return { version, folder };
      }
    }
  }
  return null;
}

const GROUP = findGroup();

// One number of the control group; null: it is not there, or there is no limit.
function ask(what) {
  if (GROUP === null) return null;
  const [file, word] = FILES[GROUP.version][what];
  for (const line of linesOf(path.join(GROUP.folder, file))) {
    const words = line.trim().split(/\s+/);
    const value = words.pop();
    if (words.join(' ') === word) return /^\d+$/.test(value) && Number(value) < 2 ** 60 ? Number(value) : null;
  }
  return null;
}

// What the process itself holds, in bytes: what `ps` and `top` show.
function resident() {
  const line = linesOf('/proc/self/status').find((each) => each.startsWith('VmRSS:'));
  return line === undefined ? null : Number(line.split(/\s+/)[1]) * 1024;
}

function mebibytes(value) {
  return value === null ? '-' : (value / MIB).toFixed(1);
}

function report(lines) {
  const columns = [lines * LINE_BYTES, resident(), ...['cache', 'dirty', 'usage', 'limit'].map(ask)];
  console.log(String(lines).padStart(10) + columns.map((column) => mebibytes(column).padStart(10)).join(''));
}

// The lines from `first` up to `last`, LINES_A_WRITE of them at a time.
function* chunks(first, last) {
  const filler = 'x'.repeat(LINE_BYTES - 12);
  for (let start = first; start < last; start += LINES_A_WRITE) {
    let text = '';
    for (let number = start; number < Math.min(start + LINES_A_WRITE, last); number++) {
      text += `${String(number).padStart(10)} ${filler}\n`;
    }
    yield Buffer.from(text);
  }
}

// fs.writeSync may write less than it was given.
function writeAll(file, chunk) {
  for (let done = 0; done < chunk.length; ) done += fs.writeSync(file, chunk, done);
}

function write(bloat, directory, lines, batch, progress) {
  let file = null;
  for (let number = 1, first = 0; first < lines; number++, first += batch) {
    const last = Math.min(first + batch, lines);
    const name = bloat === 'many' ? `bloat-${String(number).padStart(6, '0')}.txt` : 'bloat.txt';
    if (file === null) file = fs.openSync(path.join(directory, name), 'w'); // 'w' truncates
    for (const chunk of chunks(first, last)) writeAll(file, chunk);
    progress(last);
    if (bloat !== 'single') {
      fs.closeSync(file);
      file = null;
    }
  }
  if (file !== null) fs.closeSync(file);
}

function refuse(message) {
  console.error(`bloat.js: error: ${message}`);
  process.exit(2);
}

function parse() {
  const usage = 'node bloat.js --bloat single|many|reuse [--lines N] [--batch N] [--directory DIR]';
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        bloat: { type: 'string' },
        lines: { type: 'string', default: '20000000' },
        batch: { type: 'string', default: '100000' },
        directory: { type: 'string', default: '.' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }));
  } catch (error) {
    refuse(error.message);
  }
  if (values.help) {
    console.log(`usage: ${usage}`);
    console.log(`defaults: --lines ${values.lines} --batch ${values.batch} --directory ${values.directory}`);
    process.exit(0);
  }
  if (!['single', 'many', 'reuse'].includes(values.bloat)) refuse(`--bloat must be single, many or reuse: ${usage}`);
  const counts = ['lines', 'batch'].map((name) => {
    if (!/^[1-9]\d*$/.test(values[name])) refuse(`--lines and --batch must be 1 or more`);
    return Number(values[name]);
  });
  return [values.bloat, ...counts, values.directory];
}

function main() {
  const [bloat, lines, batch, directory] = parse();
  fs.mkdirSync(directory, { recursive: true });
  const group = GROUP === null ? 'no memory control group' : `control group v${GROUP.version}`;
  console.log(`${bloat}: ${lines} lines, ${batch} a batch; ${group}; MiB`);
  const names = ['written', 'process', 'cache', 'dirty', 'usage', 'limit'];
  console.log('lines'.padStart(10) + names.map((name) => name.padStart(10)).join(''));
  let said = 0;
  write(bloat, directory, lines, batch, (done) => {
    const step = Math.floor((done * REPORTS) / lines);
    if (done === lines || step > said) {
      said = step;
      report(done);
    }
  });
  const [peak, failed, killed] = ['peak', 'failed', 'killed'].map(ask);
  console.log(`peak usage ${mebibytes(peak)}, failed charges ${failed ?? '-'}, OOM kills ${killed ?? '-'}`);
}

main();
