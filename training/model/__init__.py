"""The network: packet encoders, knowledge graphs, and the whole PacketCLIP model."""
