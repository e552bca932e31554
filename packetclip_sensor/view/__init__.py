"""Alert documents come in; what people look at goes out: terminal tables, trees, the HTML report."""
