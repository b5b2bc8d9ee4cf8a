"""The likelihood of data: row by row, of several models, whether it is one, and where it has to be estimated."""
