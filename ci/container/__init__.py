"""The wheel as PyPA's cibuildwheel makes it, in a container of another system than this one."""
