// A client in strict TypeScript with types generated from the OpenAPI document.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.ts";

declare const process: { argv: string[] };
type Job = components["schemas"]["Job"];

const [baseUrl = "", key = ""] = process.argv.slice(2);
const api = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${key}` } });

async function getJob(id: string): Promise<Job> {
  const { data, error } = await api.GET("/v1/jobs/{id}", { params: { path: { id } } });
  if (!data) throw new Error(`${error.code}: ${error.detail}`);
  return data;
}

const made = await api.POST("/v1/jobs", {
  params: { header: { Prefer: "wait=20" } },
  body: { account: "kling", model: "kling-v3", input: { prompt: "a cat surfing" } },
});
if (!made.data) throw new Error(`${made.error.code}: ${made.error.detail}`);

const listed = await api.GET("/v1/jobs", {
  params: { query: { status: ["succeeded"], limit: 10 } },
});
const jobs: Job[] = listed.data?.data ?? [];

const missing = await api.GET("/v1/jobs/{id}", {
  params: { path: { id: made.data.id.replace(/.$/, (last) => (last === "0" ? "1" : "0")) } },
});

console.log(
  JSON.stringify({
    status: (await getJob(made.data.id)).status,
    listed: jobs.map((job) => job.output?.videos[0]?.url),
    refused: missing.error?.code,
  }),
);
