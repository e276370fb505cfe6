import { Resolver } from 'node:dns/promises'
import { challengeName, challengeTarget } from '@roost/core'

const ASK_MS = 3000

/** Whether `_acme-challenge.<name>` leads to where the edges answer. A resolver that says nothing: no. */
export async function isDelegated(
  hostname: string,
  domain: string,
  nameservers: readonly string[] | undefined,
  signal: AbortSignal,
): Promise<boolean> {
  const resolver = new Resolver({ timeout: ASK_MS / 2, tries: 2 })
  if (nameservers !== undefined) resolver.setServers(nameservers)
  const cancel = () => resolver.cancel()
  const timer = setTimeout(cancel, ASK_MS)
  signal.addEventListener('abort', cancel, { once: true })
  try {
    const found = await resolver.resolveCname(challengeName(hostname))
    return found.some(
      (name) => name.toLowerCase().replace(/\.$/, '') === challengeTarget(hostname, domain),
    )
  } catch {
    return false
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', cancel)
  }
}
