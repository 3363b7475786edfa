"""What libraries built for different targets share."""
