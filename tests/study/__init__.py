"""What a model's features do on the whole, and explanations of models without trees."""
