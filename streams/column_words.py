"""Words in column and file names that say what a column is for; names are taken apart by `words_in`.

Words only lean: what the values say is weighed against them. English, because most column names are.
"""

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ID_WORDS = _words(
    "id uuid guid key code number no nr num ref sku iban vin plate name customer user account card device meter sensor "
    "patient member vehicle driver merchant store shop product item client player host ip machine station terminal "
    "tailnum email phone"
)
TIME_WORDS = _words("time timestamp ts at date datetime day when epoch on created")
LATER_WORDS = _words(  # a time that is said before it comes, or that belongs to a thing and not to an event
    "birth born dob expiry expires expiration due until valid deadline scheduled planned expected estimated eta "
    "updated modified end ended finish finished discharged closed resolved signup registered joined"
)
PLAN_WORDS = _words("scheduled planned due expected estimated")  # known before it comes
ARRIVAL_WORDS = _words("received ingested ingest ingestion loaded landed inserted synced")
OUTCOME_WORDS = _words(
    "label target outcome fraud fraudulent churn churned default defaulted cancelled canceled cancellation "
    "cancellations failed failure failures fault faults late overdue readmitted readmission readmissions converted "
    "conversion conversions click clicked clicks won lost anomaly anomalies anomalous alarm alarms outage outages "
    "returned returns refunded refunds complaint complaints disputed dispute disputes chargeback chargebacks died "
    "accident accidents violation violations incident incidents spam bought purchased success successful noshow "
    "breakdown breakdowns"
)
DELAY_WORDS = _words("delay late lateness overdue loss damage fine penalty duration wait waiting")
ATTRIBUTE_WORDS = _words("weekend holiday night member active premium test deleted male female new has enabled")
CATEGORY_WORDS = _words(
    "status type currency unit kind category state level reason comment description note notes text message color mode "
    "severity scenario class grade weather method channel"
)
PLACE_WORDS = _words("lat latitude lon lng long longitude x y")


def words_in(name: str) -> list[str]:
    """Take a name apart.

    >>> words_in("customerId"), words_in("no_show")
    (['customer', 'id'], ['no', 'show'])
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return re.findall(r"[a-z0-9]+", spaced) or [name]
