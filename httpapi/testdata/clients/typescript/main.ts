// A sales department's day with the types that openapi-typescript makes of the
// API's OpenAPI document:
//
//	curl -o openapi.json http://127.0.0.1:8000/openapi.json
//	npm ci && npm run generate && npm run build
//	TOKEN=… node build/main.js http://127.0.0.1:8000

import createClient from "openapi-fetch";
import type { components, paths } from "./cims.js";

type Customer = components["schemas"]["CimsCustomer"];
type Problem = components["schemas"]["CimsProblem"];

const [baseUrl] = process.argv.slice(2);
const token = process.env["TOKEN"];
if (baseUrl === undefined || token === undefined) {
  throw new Error("usage: TOKEN=… node build/main.js URL");
}
const api = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });

/** done is what was answered, unless it was a refusal. */
function done<T>(answer: { data?: T; error?: Problem }): T {
  if (answer.data === undefined) {
    throw new Error(`${answer.error?.title}: ${answer.error?.detail}`);
  }
  return answer.data;
}

const status = done(await api.POST("/management/statuses", {
  body: { name: "Contract signed", display_name: "Signed", color: "#0EA5E9" },
}));

for (const name of ["Aziza", "Bekzod", "Dilnoza"]) {
  done(await api.POST("/management/users", {
    body: { email: `${name}@example.com`, name, surname: "Karimov", role_name: "sales_manager" },
  }));
}

const leads: Customer[] = [];
for (let i = 0; i < 9; i++) {
  leads.push(done(await api.POST("/crm/customers", {
    params: { header: { "Idempotency-Key": `order-${i}` } },
    body: { full_name: `Lead ${i + 1}` },
  })));
}
const [first, , third] = leads;
if (first === undefined || !third?.sales_manager) {
  throw new Error("a lead has no sales manager");
}

done(await api.POST("/crm/assign-sales-manager", {
  body: { customer_id: first.id, sales_manager_id: third.sales_manager.id },
}));
const customer = { path: { customer_id: first.id } };
done(await api.PUT("/crm/customers/{customer_id}/status", { params: customer, body: { status_name: status.name } }));

const summary: string[] = [];
for (const manager of done(await api.GET("/crm/sales-managers"))) {
  summary.push(`${manager.name} ${manager.assigned_leads_count}`);
}
const rate = done(await api.GET("/crm/conversion-rate", { params: { query: { target: status.name } } }));
summary.push(`${rate.project_started_count} of ${rate.total_customers} ${status.name}: ${rate.conversion_rate.toFixed(2)} %`);
for (const event of done(await api.GET("/crm/customers/{customer_id}/history", { params: customer })).items) {
  if (event.kind === "status" && typeof event.to === "string") {
    summary.push(event.to);
  }
}

const deleted = await api.DELETE("/management/statuses/{status_id}", { params: { path: { status_id: status.id } } });
if (deleted.response.status !== 409 || deleted.error?.count === undefined) {
  throw new Error(`a status in use was deleted: ${deleted.response.status}`);
}
summary.push(`in use: ${deleted.error.count}`);
console.log(summary.join(", "));
