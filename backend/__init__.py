"""The source build: a PEP 517 backend (`hooks`) in front of scikit-build-core.

It determines what pyproject.toml cannot express, such as the installed CUDA toolkit. It runs on
Python 3.8, in build environments with little more than scikit-build-core.
"""
