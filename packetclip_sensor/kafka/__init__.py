"""The sensor on several machines: log lines come in by Kafka, are routed by host, judged by partition, and become alerts."""
