"""The scratch RNN of Dive into Deep Learning, trained on The Time Machine. README.md here is the map of the house."""
