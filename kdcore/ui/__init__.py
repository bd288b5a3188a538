"""The only room that imports streamlit: what several pages share, and the words they show."""
