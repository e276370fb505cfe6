import { openApiDocument } from '../../../packages/server/src/http/openapi.ts'

/** What our own OpenAPI document says of one operation, as flat paths such as `config.services[].ports[].port`. */
export interface Operation {
  readonly query: ReadonlySet<string>
  readonly body: ReadonlySet<string>
  readonly reply: ReadonlySet<string>
  readonly statuses: ReadonlySet<string>
}

type Json = { readonly [key: string]: unknown }

/** By `GET /v1/apps/{app}`. */
export function ownOperations(): ReadonlyMap<string, Operation> {
  const document = openApiDocument('0.0.0') as Json
  const all = new Map<string, Operation>()
  for (const [path, methods] of Object.entries(document['paths'] as Record<string, Json>))
    for (const [method, operation] of Object.entries(methods as Record<string, Json>)) {
      const parameters = (operation['parameters'] ?? []) as { in: string; name: string }[]
      const responses = operation['responses'] as Record<string, Json>
      const reply = new Set<string>()
      for (const [status, response] of Object.entries(responses))
        if (status.startsWith('2')) flatten(document, schemaIn(response), '', reply)
      const body = new Set<string>()
      flatten(document, schemaIn(operation['requestBody'] as Json | undefined), '', body)
      all.set(`${method.toUpperCase()} ${path}`, {
        query: new Set(parameters.filter((one) => one.in === 'query').map((one) => one.name)),
        body,
        reply,
        statuses: new Set(Object.keys(responses)),
      })
    }
  return all
}

/** Paths of a configuration's keys, as `services[].ports[].port` and `checks.*.port`. */
export function ownConfigKeys(): ReadonlySet<string> {
  const document = openApiDocument('0.0.0') as Json
  const schemas = (document['components'] as Json)['schemas'] as Record<string, Json>
  const keys = new Set<string>()
  flatten(document, schemas['MachineConfig'], '', keys)
  return keys
}

function schemaIn(part: Json | undefined): Json | undefined {
  const content = part?.['content'] as Record<string, Json> | undefined
  return content?.['application/json']?.['schema'] as Json | undefined
}

function flatten(document: Json, schema: Json | undefined, path: string, into: Set<string>): void {
  if (schema === undefined) return
  const reference = schema['$ref']
  if (typeof reference === 'string') {
    const parts = reference.split('/').slice(1)
    const target = parts.reduce<unknown>((at, part) => (at as Json | undefined)?.[part], document)
    flatten(document, target as Json | undefined, path, into)
  }
  for (const kind of ['anyOf', 'oneOf', 'allOf'])
    for (const one of (schema[kind] ?? []) as Json[]) flatten(document, one, path, into)
  for (const [name, inside] of Object.entries(
    (schema['properties'] ?? {}) as Record<string, Json>,
  )) {
    const at = path === '' ? name : `${path}.${name}`
    into.add(at)
    flatten(document, inside, at, into)
  }
  if (schema['items'] !== undefined) flatten(document, schema['items'] as Json, `${path}[]`, into)
  const others = schema['additionalProperties']
  if (typeof others === 'object' && others !== null)
    flatten(document, others as Json, `${path}.*`, into)
}
