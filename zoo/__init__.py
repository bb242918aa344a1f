"""How do two vision models see differently?"""
