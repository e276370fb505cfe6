import type { AppName } from '../id.ts'
import type { Action, Policy } from './policy.ts'

const READING = [
  'app:read',
  'machine:read',
  'release:read',
  'log:read',
  'certificate:read',
  'secret:list',
  'region:read',
  'token:self',
  'token:list',
] as const satisfies readonly Action[]

const DEPLOYING = [
  ...READING,
  'machine:create',
  'machine:update',
  'machine:start',
  'machine:stop',
  'machine:destroy',
  'machine:exec',
  'machine:connect',
  'session:list',
  'release:create',
  'build:create',
  'certificate:add',
  'certificate:remove',
  'secret:set',
  'registry:pull',
  'registry:push',
  'token:create',
  'token:revoke',
] as const satisfies readonly Action[]

/** Everything, everywhere. */
export const ADMIN: Policy = { actions: ['*'] }

/** All that a deploy of one app needs, and nothing of others. */
export function deployRole(app: AppName): Policy {
  return { actions: DEPLOYING, apps: [app] }
}

/** Sees of one app what `READ_ONLY` sees of all. */
export function readOnlyRole(app: AppName): Policy {
  return { actions: READING, apps: [app] }
}

/** Sees everything but the values of secrets; changes nothing. */
export const READ_ONLY: Policy = { actions: [...READING, 'host:read'] }
