// Shows the document beside this folder. The validator is off, because it would send the document to another service.
const openapi = new URL("../openapi.json", document.currentScript.src).href;
SwaggerUIBundle({ url: openapi, dom_id: "#docs", deepLinking: true, validatorUrl: null });
