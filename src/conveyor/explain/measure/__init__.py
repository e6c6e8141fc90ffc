"""What a trained model does over a text: recorded and measured."""
