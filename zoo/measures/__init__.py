"""Measures: pure functions of arrays; how alike are two representations, and how sure is it?"""
