"""Running a kernel that a file names: loading it, choosing dtypes and sizes, drawing arguments, finding its reference."""
