"""Who is compared: networks, the images that all of them see, and how layers lie over an image."""
