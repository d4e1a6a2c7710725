"""YAML catalogs: crawling folders, writing, updating, checking and searching catalogs.

The way of a catalog: `folders` walks, `crawl` opens what it finds, `grouping` says which files are one data set,
`entries` describes it, `updating` keeps what people wrote, `writing` makes the file. `building` runs through all of it.
"""
