"""From settings to a folder: workflows, pages, export, hub."""
