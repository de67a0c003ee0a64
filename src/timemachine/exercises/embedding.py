"""Exercise 5: replace the one-hot encoding with learnable embeddings. Does it lead to better performance?"""
