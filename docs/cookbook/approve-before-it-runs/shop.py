"""What the shop can do."""


def refund(customer: str, amount: float) -> str:
    """Pay money back to a customer.

    amount: In euros.
    """
    return f"Refunded {amount:g} euros to {customer}"
