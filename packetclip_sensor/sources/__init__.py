"""Log files, growing or finished, and captures that Zeek reads come in; batches of packet and flow records go out."""
