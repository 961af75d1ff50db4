"""The wizard: data, model, recipe, review, launch; a step a file, over one draft that is kept after every change."""
