"""Jobs that run again and again while they are killed: the table stays exact, and nothing that is kept grows."""
