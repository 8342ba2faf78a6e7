"""Random changes of crops on the device: presets, spatial and intensity transforms."""
