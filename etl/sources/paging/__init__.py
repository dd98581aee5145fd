"""What `etl.sources.Pages` is made of: the styles of paging, the presets, the cursor, the rows of a page."""
