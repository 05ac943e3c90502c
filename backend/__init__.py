"""The source build: a PEP 517 backend (`hooks`) in front of scikit-build-core.

It finds out what pyproject.toml cannot say, such as which CUDA toolkit is here. Runs on Python 3.8,
in build environments that hold little more than scikit-build-core.
"""
