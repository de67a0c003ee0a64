"""What a trained model predicts on any text, beside n-grams."""
