// Shows openapi.json, which lies beside this page wherever the service is mounted. Asks no other host for anything, so
// calls that are tried out go to where the page came from, whatever the service's public address is.
const here = new URL(".", document.baseURI).href.replace(/\/$/, "");

fetch("openapi.json")
  .then((answer) => answer.json())
  .then((spec) =>
    SwaggerUIBundle({
      spec: { ...spec, servers: [{ url: here }] },
      dom_id: "#swagger-ui",
      deepLinking: true,
      docExpansion: "list",
      defaultModelsExpandDepth: 0,
      validatorUrl: null,
    }),
  );
