import type { Action } from '@roost/core'
import { z } from 'zod'
import {
  appListReply,
  appName,
  appReply,
  createAppBody,
  createMachineBody,
  leaseBody,
  leaseQuery,
  leaseReleasedReply,
  leaseReply,
  machineEvent,
  machineId,
  machineReply,
  okReply,
  restartQuery,
  stopMachineBody,
  updateMachineBody,
  waitQuery,
} from './machines.ts'
import {
  appStatusReply,
  buildEvent,
  createReleaseBody,
  hostReply,
  joinBody,
  joinReply,
  joinTokenReply,
  logLine,
  regionReply,
  releaseEvent,
  releaseReply,
  secretReply,
  setSecretsBody,
  whoamiReply,
} from './platform.ts'

/**
 * Every route that a person or a script can call, with the action that it needs: one without an action does not compile.
 * `open` is for what carries its own proof (a join token) or none (health). Server, client and OpenAPI are made from this.
 */
export interface RouteSpec {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** Fastify's form: `:app`. */
  readonly path: string
  readonly action: Action | 'open'
  readonly summary: string
  readonly params?: z.ZodType
  readonly query?: z.ZodType
  /** `stream`: the raw body. */
  readonly body?: z.ZodType | 'stream'
  /** `lines`: newline-delimited JSON for as long as it takes. `none`: no body. */
  readonly reply: z.ZodType | 'lines' | 'none'
  /** What each line is, where the reply is `lines`. */
  readonly line?: z.ZodType
  readonly status?: number
}

const app = z.object({ app: appName })
const machine = z.object({ app: appName, id: machineId })
const version = z.object({ app: appName, version: z.coerce.number().int() })
const started = z.looseObject({ previous_state: z.string() })
const flag = z.enum(['true', 'false']).optional()

export const routes = {
  listApps: {
    method: 'GET',
    path: '/v1/apps',
    action: 'app:read',
    summary: 'Apps that the token may see',
    query: z.looseObject({ org_slug: z.string().optional() }),
    reply: appListReply,
  },
  createApp: {
    method: 'POST',
    path: '/v1/apps',
    action: 'app:create',
    summary: 'Reserve a name',
    body: createAppBody,
    reply: appReply,
    status: 201,
  },
  getApp: {
    method: 'GET',
    path: '/v1/apps/:app',
    action: 'app:read',
    summary: 'One app',
    params: app,
    reply: appReply,
  },
  deleteApp: {
    method: 'DELETE',
    path: '/v1/apps/:app',
    action: 'app:destroy',
    summary: 'Destroy an app, its machines and secrets',
    params: app,
    query: z.looseObject({ force: flag }),
    reply: 'none',
    status: 202,
  },

  listMachines: {
    method: 'GET',
    path: '/v1/apps/:app/machines',
    action: 'machine:read',
    summary: 'Machines of an app',
    params: app,
    query: z.looseObject({
      include_deleted: flag,
      region: z.string().optional(),
      state: z.string().optional(),
    }),
    reply: z.array(machineReply),
  },
  createMachine: {
    method: 'POST',
    path: '/v1/apps/:app/machines',
    action: 'machine:create',
    summary: 'Create and start a machine',
    params: app,
    body: createMachineBody,
    reply: machineReply,
  },
  getMachine: {
    method: 'GET',
    path: '/v1/apps/:app/machines/:id',
    action: 'machine:read',
    summary: 'One machine',
    params: machine,
    reply: machineReply,
  },
  updateMachine: {
    method: 'POST',
    path: '/v1/apps/:app/machines/:id',
    action: 'machine:update',
    summary: 'Replace the configuration: a new version of the machine',
    params: machine,
    body: updateMachineBody,
    reply: machineReply,
  },
  deleteMachine: {
    method: 'DELETE',
    path: '/v1/apps/:app/machines/:id',
    action: 'machine:destroy',
    summary: 'Destroy a machine',
    params: machine,
    query: z.looseObject({ force: flag, kill: flag }),
    reply: okReply,
  },
  startMachine: {
    method: 'POST',
    path: '/v1/apps/:app/machines/:id/start',
    action: 'machine:start',
    summary: 'Start a machine',
    params: machine,
    reply: started,
  },
  stopMachine: {
    method: 'POST',
    path: '/v1/apps/:app/machines/:id/stop',
    action: 'machine:stop',
    summary: 'Stop a machine',
    params: machine,
    body: stopMachineBody.nullish(),
    reply: okReply,
  },
  restartMachine: {
    method: 'POST',
    path: '/v1/apps/:app/machines/:id/restart',
    action: 'machine:stop',
    summary: 'Stop a machine and start it again',
    params: machine,
    query: restartQuery,
    reply: okReply,
  },
  cordonMachine: {
    method: 'POST',
    path: '/v1/apps/:app/machines/:id/cordon',
    action: 'machine:update',
    summary: 'Take a machine out of rotation; it runs on',
    params: machine,
    reply: okReply,
  },
  uncordonMachine: {
    method: 'POST',
    path: '/v1/apps/:app/machines/:id/uncordon',
    action: 'machine:update',
    summary: 'Let a machine be sent requests again',
    params: machine,
    reply: okReply,
  },
  listMachineEvents: {
    method: 'GET',
    path: '/v1/apps/:app/machines/:id/events',
    action: 'machine:read',
    summary: 'What happened to a machine, newest first',
    params: machine,
    reply: z.array(machineEvent),
  },
  getLease: {
    method: 'GET',
    path: '/v1/apps/:app/machines/:id/lease',
    action: 'machine:read',
    summary: 'The lease that somebody holds on a machine',
    params: machine,
    reply: leaseReply,
  },
  takeLease: {
    method: 'POST',
    path: '/v1/apps/:app/machines/:id/lease',
    action: 'machine:update',
    summary: 'Be for a while the only one who may change a machine; with the nonce, for longer',
    params: machine,
    query: leaseQuery,
    body: leaseBody.nullish(),
    reply: leaseReply,
    status: 201,
  },
  releaseLease: {
    method: 'DELETE',
    path: '/v1/apps/:app/machines/:id/lease',
    action: 'machine:update',
    summary: 'Give a lease back, by its nonce',
    params: machine,
    reply: leaseReleasedReply,
  },
  waitMachine: {
    method: 'GET',
    path: '/v1/apps/:app/machines/:id/wait',
    action: 'machine:read',
    summary: 'Wait for a state',
    params: machine,
    query: waitQuery,
    reply: okReply,
  },
  platformRegions: {
    method: 'GET',
    path: '/v1/platform/regions',
    action: 'region:read',
    summary: 'Regions in the form of the Machines API',
    reply: z.looseObject({}),
  },

  whoami: {
    method: 'GET',
    path: '/api/v1/whoami',
    action: 'token:self',
    summary: 'What this token may do, and which server this is',
    reply: whoamiReply,
  },
  health: {
    method: 'GET',
    path: '/api/v1/health',
    action: 'open',
    summary: 'Answers when the server can read and write its store',
    reply: okReply,
  },
  openapi: {
    method: 'GET',
    path: '/api/v1/openapi.json',
    action: 'open',
    summary: 'This document',
    reply: z.looseObject({}),
  },
  listRegions: {
    method: 'GET',
    path: '/api/v1/regions',
    action: 'region:read',
    summary: 'Regions with hosts',
    reply: z.array(regionReply),
  },
  listHosts: {
    method: 'GET',
    path: '/api/v1/hosts',
    action: 'host:read',
    summary: 'Hosts',
    reply: z.array(hostReply),
  },
  createJoinToken: {
    method: 'POST',
    path: '/api/v1/hosts/join-tokens',
    action: 'host:join-token',
    summary: 'A token with which one host may join within the hour',
    reply: joinTokenReply,
    status: 201,
  },
  joinHost: {
    method: 'POST',
    path: '/api/v1/hosts/join',
    action: 'open',
    summary: 'Become a host, with a join token',
    body: joinBody,
    reply: joinReply,
    status: 201,
  },
  removeHost: {
    method: 'DELETE',
    path: '/api/v1/hosts/:host',
    action: 'host:remove',
    summary: 'Forget a host and the machines that were on it',
    params: z.object({ host: z.string() }),
    reply: okReply,
  },
  appStatus: {
    method: 'GET',
    path: '/api/v1/apps/:app/status',
    action: 'app:read',
    summary: 'Release and machines at a glance',
    params: app,
    reply: appStatusReply,
  },
  appLogs: {
    method: 'GET',
    path: '/api/v1/apps/:app/logs',
    action: 'log:read',
    summary: 'Log lines of all machines, oldest first',
    params: app,
    query: z.object({
      follow: flag,
      lines: z.coerce.number().int().min(0).max(10_000).default(100),
      machine: machineId.optional(),
      region: z.string().optional(),
    }),
    reply: 'lines',
    line: logLine,
  },
  createBuild: {
    method: 'POST',
    path: '/api/v1/apps/:app/builds',
    action: 'build:create',
    summary: 'Build an image from a context',
    params: app,
    body: 'stream',
    reply: 'lines',
    line: buildEvent,
  },
  listReleases: {
    method: 'GET',
    path: '/api/v1/apps/:app/releases',
    action: 'release:read',
    summary: 'Releases, newest first',
    params: app,
    reply: z.array(releaseReply),
  },
  createRelease: {
    method: 'POST',
    path: '/api/v1/apps/:app/releases',
    action: 'release:create',
    summary: 'Release an image and configuration',
    params: app,
    body: createReleaseBody,
    reply: releaseReply,
    status: 201,
  },
  getRelease: {
    method: 'GET',
    path: '/api/v1/apps/:app/releases/:version',
    action: 'release:read',
    summary: 'One release',
    params: version,
    reply: releaseReply,
  },
  followRelease: {
    method: 'GET',
    path: '/api/v1/apps/:app/releases/:version/events',
    action: 'release:read',
    summary: 'Progress of a release until it ends',
    params: version,
    reply: 'lines',
    line: releaseEvent,
  },
  listSecrets: {
    method: 'GET',
    path: '/api/v1/apps/:app/secrets',
    action: 'secret:list',
    summary: 'Names and digests; values are never shown',
    params: app,
    reply: z.array(secretReply),
  },
  setSecrets: {
    method: 'POST',
    path: '/api/v1/apps/:app/secrets',
    action: 'secret:set',
    summary: 'Set and remove secrets',
    params: app,
    body: setSecretsBody,
    reply: z.object({ release: releaseReply.nullable() }),
  },
  setScale: {
    method: 'POST',
    path: '/api/v1/apps/:app/scale',
    action: 'release:create',
    summary: 'Machines per region, from the release that serves',
    params: app,
    body: z.object({
      scale: z.record(z.string(), z.int().min(0).max(500)),
      plan_only: z.boolean().default(false),
    }),
    reply: releaseReply,
  },
  registryToken: {
    method: 'GET',
    path: '/api/v1/registry/token',
    action: 'open',
    summary: 'Token authentication of the image store (docker login)',
    query: z.looseObject({
      service: z.string().optional(),
      scope: z.union([z.string(), z.array(z.string())]).optional(),
    }),
    reply: z.looseObject({ token: z.string() }),
  },
} as const satisfies Record<string, RouteSpec>

export type Routes = typeof routes
export type RouteName = keyof Routes
