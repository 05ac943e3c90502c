"""Programs of one file each that lie beside the wheels: they import nothing of this tool."""
