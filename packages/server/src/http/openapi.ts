import {
  DESCRIBED_AS,
  ERRORS,
  type ErrorCode,
  errorReply,
  machineConfigInput,
  type RouteSpec,
  routes,
} from '@roost/api'
import { z } from 'zod'

/** OpenAPI 3.1 of the route table. What a schema can't say in JSON Schema (a check in code) is left out of it. */
export function openApiDocument(version: string): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {}
  for (const [name, spec] of Object.entries(routes as Record<string, RouteSpec>)) {
    const path = spec.path.replace(/:(\w+)/g, '{$1}')
    paths[path] = { ...paths[path], [spec.method.toLowerCase()]: operation(name, spec) }
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Roost', version, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
    security: [{ token: [] }],
    paths,
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
      schemas: {
        Error: schemaOf(errorReply, 'output'),
        MachineConfig: schemaOf(machineConfigInput, 'input'),
      },
    },
  }
}

function operation(name: string, spec: RouteSpec): Record<string, unknown> {
  const codes = [...new Set(errorCodes(spec).map((code) => ERRORS[code].status))].sort()
  return {
    operationId: name,
    summary: spec.summary,
    ...(spec.action === 'open' ? { security: [] } : { 'x-action': spec.action }),
    parameters: [...parameters('path', spec.params), ...parameters('query', spec.query)],
    ...(spec.body === undefined ? {} : { requestBody: requestBody(spec.body) }),
    responses: {
      [spec.reply === 'socket' ? 101 : (spec.status ?? 200)]: success(spec),
      ...Object.fromEntries(
        codes.map((status) => [
          status,
          {
            description: errorCodes(spec)
              .filter((code) => ERRORS[code].status === status)
              .map((code) => `\`${code}\`: ${ERRORS[code].meaning}`)
              .join(' '),
            content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
          },
        ]),
      ),
    },
  }
}

function errorCodes(spec: RouteSpec): ErrorCode[] {
  return [
    ...(spec.action === 'open' ? [] : (['unauthorized', 'forbidden'] as const)),
    ...(spec.params === undefined ? [] : (['not_found'] as const)),
    ...(spec.query === undefined && spec.body === undefined ? [] : (['invalid'] as const)),
    'internal',
  ]
}

function parameters(where: 'path' | 'query', schema: z.ZodType | undefined): unknown[] {
  if (schema === undefined) return []
  const { properties = {}, required = [] } = schemaOf(schema, 'input') as {
    properties?: Record<string, unknown>
    required?: string[]
  }
  return Object.entries(properties).map(([name, property]) => ({
    name,
    in: where,
    required: where === 'path' || required.includes(name),
    schema: property,
  }))
}

function requestBody(body: z.ZodType | 'stream'): unknown {
  if (body === 'stream')
    return {
      required: true,
      content: { 'application/gzip': { schema: { type: 'string', format: 'binary' } } },
    }
  return {
    required: !body.safeParse(undefined).success,
    content: { 'application/json': { schema: schemaOf(body, 'input') } },
  }
}

function success(spec: RouteSpec): unknown {
  if (spec.reply === 'none') return { description: 'Done' }
  if (spec.reply === 'socket') return { description: 'A WebSocket of the frames of a session' }
  if (spec.reply === 'lines')
    return {
      description: 'A JSON value a line; after 15 s without one an empty line',
      content: {
        'application/x-ndjson': { schema: spec.line ? schemaOf(spec.line, 'output') : {} },
      },
    }
  return {
    description: 'Done',
    content: { 'application/json': { schema: schemaOf(spec.reply, 'output') } },
  }
}

function schemaOf(schema: z.ZodType, io: 'input' | 'output'): Record<string, unknown> {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, {
    io,
    unrepresentable: 'any',
    override: ({ jsonSchema }) => {
      const { [DESCRIBED_AS]: name } = jsonSchema
      if (typeof name !== 'string') return
      delete jsonSchema[DESCRIBED_AS]
      jsonSchema.allOf = [{ $ref: `#/components/schemas/${name}` }]
    },
  })
  return rest
}
