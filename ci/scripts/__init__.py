"""Single-file scripts published beside the wheels; they import nothing of this tool."""
