"""What every room of `fleet` needs: errors, files written whole, tables of text, the transport of files."""
