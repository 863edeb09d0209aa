"""What goes out: masks and what is made of them, written into messages, published for those who listen."""
