"""Talk: text that is spoken moves the mouth, from letters to visemes to curves."""
