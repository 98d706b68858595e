"""The contract as a document: OpenAPI and AsyncAPI, generated from the types, routes and parameters that the server uses."""
