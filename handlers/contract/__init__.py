"""The API contract as OpenAPI and AsyncAPI documents, generated from the server's types, routes and parameters."""
