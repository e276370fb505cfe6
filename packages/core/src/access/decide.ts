import type { AppName, Instant } from '../id.ts'
import type { AccessDecision, AccessRequest, Action, Policy } from './policy.ts'

/** Whether a policy lets its bearer do this now. What it doesn't name is denied. */
export function decide(policy: Policy, request: AccessRequest, now: Instant): AccessDecision {
  const { action, app } = request
  if (policy.expiresAt !== undefined && now >= policy.expiresAt)
    return denied('this token has expired')
  if (!policy.actions.includes('*') && !policy.actions.includes(action))
    return denied(`this token does not allow ${action}`)
  if (policy.apps === undefined) return { kind: 'allowed' }
  if (app !== null)
    return policy.apps.includes(app)
      ? { kind: 'allowed' }
      : denied(`this token does not allow ${action} for app ${app}`)
  return OF_NO_APP.has(action)
    ? { kind: 'allowed' }
    : denied(`this token is for single apps and does not allow ${action}`)
}

/** What a token that is for single apps may do where no app is named: its lists show those apps alone, and it handles only what it made. */
const OF_NO_APP: ReadonlySet<Action> = new Set<Action>([
  'app:read',
  'region:read',
  'token:self',
  'token:create',
  'token:list',
  'token:revoke',
])

/** Of a list of apps, whether this one may be shown. */
export function maySeeApp(policy: Policy, app: AppName): boolean {
  return policy.apps === undefined || policy.apps.includes(app)
}

function denied(why: string): AccessDecision {
  return { kind: 'denied', why }
}
