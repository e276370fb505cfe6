import { isLive, type Token } from '../access/token.ts'
import type { Instant } from '../id.ts'
import type { Finding } from './findings-of.ts'

const DAY_MS = 86_400_000
/** In use: whoever used it within this time would miss it. */
const USED_WITHIN_MS = 7 * DAY_MS
const ENDS_WITHIN_MS = 7 * DAY_MS

/** Tokens that are in use and end soon: most often nobody remembers them before the deploy that fails. */
export function tokenFindings(tokens: readonly Token[], now: Instant): Finding[] {
  return tokens.flatMap((token): Finding[] => {
    const { kind, name, id, policy, lastUsedAt } = token
    const { expiresAt, apps } = policy
    if (expiresAt === undefined || !isLive(token, now)) return []
    if (expiresAt - now > ENDS_WITHIN_MS) return []
    if (lastUsedAt === null || now - lastUsedAt > USED_WITHIN_MS) return []
    const app = apps?.[0] === undefined ? '' : ` -a ${apps[0]}`
    return [
      {
        severity: 'warning',
        about: `token ${name}`,
        problem: `it is in use, and ends at ${new Date(expiresAt).toISOString()}`,
        why: null,
        fixes: [
          `roost tokens create ${kind}${app} --name ${JSON.stringify(name)}   # then: roost tokens revoke ${id}`,
        ],
      },
    ]
  })
}
