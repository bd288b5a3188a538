"""Figures and pages for people, without streamlit and without torch."""
