import { appStatusReply, appTrafficReply, doctorReply, releaseReply, tokenReply } from '@roost/api'
import { z } from 'zod'

/**
 * What `--json` of each command prints, for those who write scripts: a field that is here stays, and keeps its meaning; others
 * may be added. A command that is not here answers with what a test of its own looks at.
 */
const app = z.strictObject({ name: z.string(), status: z.string(), machines: z.number() })
const check = z.strictObject({ name: z.string(), status: z.string(), output: z.string() })
export const machineShape = z.strictObject({
  id: z.string(),
  name: z.string(),
  state: z.string(),
  group: z.string(),
  region: z.string(),
  host: z.string(),
  image: z.string(),
  size: z.string(),
  checks: z.array(check),
  private_ip: z.string(),
  version: z.string().optional(),
  created_at: z.string(),
  updated_at: z.string(),
})
const reached = (state: string) =>
  z.array(z.strictObject({ id: z.string(), state: z.literal(state).nullable() }))
const release = z.strictObject(releaseReply.shape)
const token = z.strictObject(tokenReply.shape)
const scaled = z.strictObject({
  scale: z.record(z.string(), z.number()),
  groups: z.record(z.string(), z.record(z.string(), z.number())),
  release,
})

export const JSON_SHAPES: Readonly<Record<string, z.ZodType>> = {
  'apps list': z.array(app),
  status: z.strictObject({
    ...appStatusReply.shape,
    traffic: z.strictObject(appTrafficReply.shape).nullable(),
  }),
  'machine list': z.array(machineShape),
  'machine status': machineShape.extend({
    config: z.record(z.string(), z.unknown()),
    events: z.array(z.unknown()),
  }),
  'machine start': reached('started'),
  'machine stop': reached('stopped'),
  'machine wait': reached('started'),
  'machine destroy': reached('destroyed'),
  'machine run': machineShape,
  'machine create': machineShape,
  'machine clone': machineShape,
  'machine update': machineShape,
  'machine kill': z.array(z.strictObject({ id: z.string(), signal: z.string() })),
  'machine metadata': z.record(z.string(), z.string()),
  'scale show': z.array(
    z.strictObject({
      group: z.string(),
      region: z.string(),
      size: z.string(),
      count: z.number(),
    }),
  ),
  'scale count': scaled,
  'secrets list': z.array(
    z.strictObject({
      name: z.string(),
      digest: z.string(),
      created_at: z.string(),
      updated_at: z.string(),
    }),
  ),
  'tokens list': z.array(token),
  'tokens create': token.extend({ token: z.string() }),
  'tokens revoke': z.array(token),
  'context list': z.array(
    z.strictObject({ name: z.string(), url: z.string(), current: z.boolean(), ca: z.boolean() }),
  ),
  'context show': z.strictObject({ url: z.string(), from: z.string(), file: z.string() }),
  'auth whoami': z.strictObject({
    server: z.string(),
    from: z.string(),
    name: z.string(),
    id: z.string().nullable(),
    kind: z.string().nullable(),
    actions: z.array(z.string()),
    apps: z.array(z.string()).nullable(),
    expires_at: z.string().nullable(),
    version: z.string(),
    domain: z.string(),
  }),
  doctor: z.strictObject({ ...doctorReply.shape, server_reached: z.boolean() }),
  open: z.strictObject({ url: z.string() }),
  completion: z.strictObject({ shell: z.string(), script: z.string() }),
}
