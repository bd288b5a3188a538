"""Knowledge distillation of satellite-image segmentation."""
