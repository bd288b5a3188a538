"""Labels: what is the teacher worth in labels? Students with growing shares of the labels, with and without it."""

import streamlit as st

from kdcore.ui import label_curves

st.title("What is the teacher worth in labels?", icon=":material/sell:")
known = label_curves.known_curves()
if known:
    label_curves.show(label_curves.choose(known))
else:
    label_curves.show_empty()
