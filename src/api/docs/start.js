// Shows the document beside this folder. The validator is off: it is a service elsewhere that would be told of the document.
const openapi = new URL("../openapi.json", document.currentScript.src).href;
SwaggerUIBundle({ url: openapi, dom_id: "#docs", deepLinking: true, validatorUrl: null });
