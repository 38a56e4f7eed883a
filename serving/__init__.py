"""What runs beside live traffic: one package per process or idea."""
