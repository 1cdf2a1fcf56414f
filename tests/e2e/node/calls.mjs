// One scenario of OpenAI's SDK, unchanged but for base URL and key. Prints what the caller saw, as JSON.
import OpenAI from "openai";

const [baseURL, apiKey, params] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey });
try {
  const answer = await client.images.generate(JSON.parse(params));
  const data = answer.data.map(({ url, b64_json }) => ({ url, bytes: b64_json ? Buffer.from(b64_json, "base64").length : null }));
  console.log(JSON.stringify({ created: answer.created, data }));
} catch (error) {
  const { status, message, code, param, type } = error;
  console.log(JSON.stringify({ status, message, code, param, type }));
}
