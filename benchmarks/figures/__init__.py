"""The figures in README and docs, written from the JSON records beside the benchmarks.

    python -m benchmarks.figures            rewrites every marked part of the documents
    python -m benchmarks.figures --check    says which parts differ from the records, and fails

A marked part lies between ``<!-- figures: NAME -->`` and ``<!-- end of figures -->``. NAME is a
function in `benchmarks.figures.parts.PARTS`, which makes its text.
"""
