"""The napari plugin: the only folder that imports Qt or napari."""
