"""What is asked of an Elasticsearch cluster besides documents: the client, templates, set-up and its removal."""
