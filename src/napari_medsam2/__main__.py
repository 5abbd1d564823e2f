"""``python -m napari_medsam2`` does what the command ``napari-medsam2`` does."""

from napari_medsam2.cli import main

if __name__ == "__main__":
    main()
