"""From what the user names to the files that are read: folders, registries, dataset repositories."""
